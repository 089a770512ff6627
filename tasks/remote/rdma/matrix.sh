# Writes MLX's matrix.
. ./rdma/write_matrix.sh
write_matrix || exit
