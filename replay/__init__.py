"""What happened in a machine, and how to be anywhere in it: traces, recording, replay."""
