"""What a node says of its links: RDMA, Thunderbolt, interfaces, routes, and whom it reaches."""
