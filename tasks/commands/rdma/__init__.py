"""What inv rdma.* does."""
