#!/bin/sh
# Trains on two nodes that are network namespaces of this machine: what torchrun needs on two machines, tried on one.
#
#     sudo sh examples/two_nodes.sh CONFIG RUN [KEY=VALUE]...      # one process a node; root, iproute2 and Linux
#
# On two machines the same two commands are run, one on each, without `ip netns exec`; the folder RUN and the images are
# on a disk that both see.
set -eu
[ $# -ge 2 ] || { echo "usage: two_nodes.sh CONFIG RUN [KEY=VALUE]..." >&2; exit 2; }
config=$1 run=$2
shift 2

clean_up() {
    for node in 0 1; do ip netns delete "label-$node" 2>/dev/null || true; done
}
trap clean_up EXIT
clean_up
for node in 0 1; do ip netns add "label-$node"; done
ip link add label-eth0 netns label-0 type veth peer name label-eth1 netns label-1
for node in 0 1; do
    ip -n "label-$node" address add "10.77.0.$((node + 1))/24" dev "label-eth$node"
    ip -n "label-$node" link set lo up
    ip -n "label-$node" link set "label-eth$node" up
done

# Each node has the address of the first, and its own: gloo and NCCL are told by which interface they reach the others.
begun=
for node in 1 0; do
    GLOO_SOCKET_IFNAME=label-eth$node NCCL_SOCKET_IFNAME=label-eth$node ip netns exec "label-$node" \
        torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id label --rdzv-endpoint 10.77.0.1:29400 \
        --rdzv-conf "is_host=$((1 - node))" --local-addr "10.77.0.$((node + 1))" \
        -m labelassemble train "$config" -o "$run" "$@" &
    begun="$begun $!"
done
for process in $begun; do wait "$process"; done
