"""The machine: an emulated i386 with lguest's Host, Switcher and Guests on it, deterministic given a World."""
