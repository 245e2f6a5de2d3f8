# Second program of the machine, in its final root: runs each test by itself, WORKERS at a time, and tells of each on the
# report's port.
#
# What failed runs once more at the end, alone: on two processors, each instruction of which is translated, a test may come
# too late for what it waits for. The report tells of both.
#
# A line of the report begins with `=` and a word: up RELEASE, start TEST, end TEST STATUS SECONDS SECONDS, done. What the
# test said lies before its end, behind a line `=said TEST`.
. /run/machine/machine/plan
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 RUST_BACKTRACE=0
box=/run/machine/bin/busybox
# One after the other: who asks for a module that another one is loading would be told that it is there. Not for long: a
# module may ask for one itself.
{
    echo "#!$box sh"
    echo "exec 9>/run/machine/loading"
    echo "flock -w 5 9"
    echo "exec $box modprobe \"\$@\""
} >/run/machine/modprobe
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
# Each worker takes the next line of the list while it holds the lock of the list, and reports while it holds the other.
: >/run/machine/listing
: >/run/machine/reporting
next() {
    exec 8>/run/machine/listing
    flock 8
    taken=$(($($box cat /run/machine/taken) + 1))
    echo "$taken" >/run/machine/taken
    exec 8>&-
    $box sed -n "${taken}p" /run/machine/machine/list
}
work() {
    said=/run/machine/said.$1
    exec 9>/run/machine/reporting
    while test=$(next) && [ -n "$test" ]; do
        flock 9
        echo "=start $test" >&3
        flock -u 9
        begun=$(now)
        $box timeout -s KILL "$LIMIT" "$BINARY" --exact "$test" --nocapture --test-threads 1 </dev/null >"$said" 2>&1 3>&- 9>&-
        status=$?
        ended=$(now)
        flock 9
        # The end of what a test said is what tells; a report without bound would hold up the machine.
        { echo "=said $test"; $box tail -c 65536 "$said"; echo; echo "=end $test $status $begun $ended"; } >&3
        [ "$status" = 0 ] || echo "$test" >>/run/machine/failed
        flock -u 9
    done
}
cd "$FOLDER"
echo 0 >/run/machine/taken
: >/run/machine/failed
worker=0
while [ "$worker" -lt "$WORKERS" ]; do
    worker=$((worker + 1))
    work "$worker" &
done
wait
if [ "$($box wc -l </run/machine/failed)" -le "$AGAIN" ]; then
    $box mv /run/machine/failed /run/machine/machine/list
    echo 0 >/run/machine/taken
    : >/run/machine/failed
    work again
fi
echo "=done" >&3
exec 3>&-
$box poweroff -f
