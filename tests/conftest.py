"""What every test takes for granted."""

import signal

import hypothesis

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("leeway", deadline=None)
hypothesis.settings.load_profile("leeway")
