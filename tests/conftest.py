"""What every test takes for granted."""

import signal

# A shell that starts the tests in the background has them ignore Ctrl-C, and whatever they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
