"""What every test takes for granted."""

import os
import signal

import hypothesis

if "PYTEST_XDIST_WORKER" in os.environ:  # the other cores are for the other workers
    os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("leeway", deadline=None)
hypothesis.settings.load_profile("leeway")
