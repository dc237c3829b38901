"""What jgrid costs, beside its peers and the machine's limits."""
