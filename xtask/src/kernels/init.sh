#!/bin/sh
# First program of the machine (busybox): makes the host's file system, read-only below a layer in memory, the root,
# and goes on there with tests.sh. The host's files cannot be changed from here; what tests write is gone at the end.
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host /layer /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
release=$(busybox uname -r)
# Those that are built in are not found, which is as good.
for module in virtio_pci virtio_console virtiofs overlay; do
    busybox modprobe -q "$module"
done
busybox mount -t tmpfs -o mode=755 layer /layer
busybox mkdir /layer/upper /layer/work
busybox mount -t virtiofs -o ro host /host || busybox poweroff -f
busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root || busybox poweroff -f
for place in proc sys dev; do
    busybox mount --move "/$place" "/root/$place"
done
busybox mkdir -p /root/dev/pts /root/dev/shm
busybox mount -t devpts pts /root/dev/pts
for place in run tmp dev/shm; do
    busybox mount -t tmpfs -o mode=1777 memory "/root/$place"
done
busybox mkdir -p /root/run/machine /root/run/lock
busybox cp -r /bin /machine /root/run/machine/
. /machine/plan
# A checkout in a place that has just become empty is laid over it, as the root is.
checkout=${FOLDER%/*}
case "$checkout" in
/run/* | /tmp/* | /dev/shm/*)
    busybox mkdir -p /layer/near /layer/nearer "/root$checkout"
    busybox mount -t overlay -o "lowerdir=/host$checkout,upperdir=/layer/near,workdir=/layer/nearer" checkout "/root$checkout"
    ;;
esac
busybox mkdir -p /root/lib/modules
busybox rm -rf "/root/lib/modules/$release"
busybox ln -s "$MODULES" "/root/lib/modules/$release"
echo /run/machine/modprobe >/root/proc/sys/kernel/modprobe
exec busybox switch_root /root /run/machine/bin/busybox sh /run/machine/machine/tests.sh
