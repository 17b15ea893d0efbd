"""The errors a user or an operator can meet. Each message says what to do next."""


class LeewayError(Exception):
    """The base of every error that Leeway raises on purpose."""


class RecipeError(LeewayError):
    """A recipe, an option or an input file is wrong. The command line answers with exit code 2."""


class PeerTimeoutError(LeewayError):
    """A peer did not answer before its deadline; the message names the peer and the wait."""


class ProtocolError(LeewayError):
    """A message on the wire is malformed. Nothing was changed."""


class RunError(LeewayError):
    """A run cannot start or go on; the message says which part failed and where its log is."""
