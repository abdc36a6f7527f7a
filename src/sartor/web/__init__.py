"""A server that answers over HTTP what `predict` answers on the command line."""
