"""What operators ask and do; the command line and the monitor only show it."""
