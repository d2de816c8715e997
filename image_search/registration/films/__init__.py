"""Films of the library: how their frames come in, how a film goes and comes back as one, where uploads are kept."""
