"""The ways in which a user who is present proves who they are, a file each."""
