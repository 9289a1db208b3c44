"""The GDB Remote Serial Protocol: bytes in, actions out."""
