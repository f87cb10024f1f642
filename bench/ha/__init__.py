"""`make ha`: the cluster of deploy/ha in network namespaces, and what it does when machines die."""
