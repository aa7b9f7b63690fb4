"""What the workstation knows about a data set beyond reading it."""
