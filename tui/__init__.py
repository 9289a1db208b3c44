"""The full-screen view of a trace: panes are pure functions of a snapshot."""
