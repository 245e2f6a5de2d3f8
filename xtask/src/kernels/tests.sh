# Second program of the machine, in its final root: runs each test by itself and tells of each on the report's port.
#
# A line of the report begins with `=` and a word: up RELEASE, start TEST, end TEST STATUS SECONDS, done. What lies between
# is what the test said.
. /run/machine/machine/plan
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 RUST_BACKTRACE=0
box=/run/machine/bin/busybox
printf '#!%s sh\nexec %s modprobe "$@"\n' "$box" "$box" >/run/machine/modprobe
$box chmod 755 /run/machine/modprobe
$box mount -t cgroup2 cgroup /sys/fs/cgroup
$box mount -t bpf bpf /sys/fs/bpf
$box mount -t securityfs security /sys/kernel/security
$box ip link set lo up
$box hostname machine
ulimit -n 65536
for port in /dev/vport*p1; do
    exec 3>"$port"
done
echo "=up $($box uname -r)" >&3
now() {
    $box cut -d ' ' -f 1 /proc/uptime
}
cd "$FOLDER"
while read -r test; do
    echo "=start $test" >&3
    begun=$(now)
    $box timeout -s KILL "$LIMIT" "$BINARY" --exact "$test" --nocapture --test-threads 1 </dev/null >/run/machine/said 2>&1
    status=$?
    # The end of what a test said is what tells; a report without bound would hold up the machine.
    $box tail -c 65536 /run/machine/said >&3
    echo >&3
    echo "=end $test $status $begun $(now)" >&3
done </run/machine/machine/list
echo "=done" >&3
exec 3>&-
$box poweroff -f
