#!/bin/sh
# The first process of a virtual machine: sets it up, runs /work/job, says on the second serial port how that ended.
PATH=/usr/sbin:/usr/bin:/usr/busybox
export PATH HOME=/root

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
hostname vm
ip link set lo up
while read -r module; do insmod "/modules/$module" || echo "cannot load $module"; done </modules/order
# As on a machine that systemd started.
ulimit -Hn 524288

# What the kernel says goes to the first serial port, what the job says to the second, as it is.
stty -F /dev/ttyS1 raw -echo
cd /work || exit 1
sh ./job </dev/null >/dev/ttyS1 2>&1
echo "zsock-vm: the job ended with status $?" >/dev/ttyS1
# The port takes a moment to write it out.
sleep 0.1
poweroff -f
