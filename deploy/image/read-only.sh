#!/usr/bin/env bash
# In new namespaces: read-only.sh ROOT RUNS UID:GID COMMAND... makes ROOT read-only but for what a restricted pod may write
# (/tmp, /home/leeway, /dev/shm, and RUNS as /runs), and runs the command in it as that user, without capabilities.
set -euo pipefail
root=$1 runs=$2 uid=${3%:*} gid=${3#*:}
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
mount -t tmpfs -o size=4g tmpfs "$root/dev/shm"
mount -t tmpfs -o size=8g tmpfs "$root/tmp"
mount -t tmpfs -o uid=$uid,gid=$gid,mode=700 tmpfs "$root/home/leeway"
mount --bind "$runs" "$root/runs"
ip link set lo up
exec chroot "$root" /usr/bin/setpriv --reuid "$uid" --regid "$gid" --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all "$@"
