"""Commands of `leeway`, one a file; `actors.cli` names them."""
