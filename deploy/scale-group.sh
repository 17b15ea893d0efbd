#!/usr/bin/env bash
# Set the number of pods of a group of a RayCluster that does not scale itself:
#   deploy/scale-group.sh GROUP COUNT [CLUSTER] [NAMESPACE]
# The patch tests that the group still stands where it was read, so that it never changes another.
set -euo pipefail
[[ $# -ge 2 && $# -le 4 && $2 =~ ^[0-9]+$ ]] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
group=$1 count=$2 cluster=${3:-leeway} namespace=${4:-leeway}
get() { kubectl -n "$namespace" get raycluster "$cluster" -o jsonpath="$1"; }

if [[ $(get '{.spec.enableInTreeAutoscaling}') == true ]]; then
  echo "$cluster scales itself: ask the run, with leeway scale" >&2
  exit 2
fi
index=0 found=
for name in $(get '{.spec.workerGroupSpecs[*].groupName}'); do
  [[ $name == "$group" ]] && { found=$index; break; }
  index=$((index + 1))
done
[[ -n $found ]] || { echo "$cluster has no group $group: $(get '{.spec.workerGroupSpecs[*].groupName}')" >&2; exit 2; }
most=$(get "{.spec.workerGroupSpecs[$found].maxReplicas}")
(( count <= most )) || { echo "maxReplicas of $group is $most: raise it first" >&2; exit 2; }
path=/spec/workerGroupSpecs/$found
patch='[{"op":"test","path":"'$path'/groupName","value":"'$group'"}'
patch+=',{"op":"replace","path":"'$path'/minReplicas","value":0}'
patch+=',{"op":"replace","path":"'$path'/replicas","value":'$count'}]'
kubectl -n "$namespace" patch raycluster "$cluster" --type=json -p "$patch"
