"""The commands of this package: each module is one, and imports click and no more at its top."""
