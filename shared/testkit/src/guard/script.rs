//! The guard itself: a POSIX shell program. It owns the child's end and its scratch directory; what it cannot remove
//! within ten seconds stays.

/// The guard's program. Arguments: stop signal, seconds of grace, scratch directory (may be empty), command and its
/// arguments. It prints the child's process id, later `exit STATUS`, and obeys two words on its standard input: `stop`,
/// and (after the child has ended) `leave`, which spares the scratch directory.
pub(super) const GUARD: &str = r#"
signal=$1 grace=$2 scratch=$3
shift 3
exec 3<&0
"$@" </dev/null >&2 3<&- &
child=$!
# Whoever reads this may be gone when the guard speaks: that must not end it. After the child, which would inherit it.
trap '' PIPE
echo "$child"
(
    read -r word <&3
    kill -s "$signal" "$child"
    kill -s CONT "$child"
    left=$((grace * 10))
    while [ "$left" -gt 0 ] && kill -0 "$child"; do
        sleep 0.1
        left=$((left - 1))
    done
    kill -s KILL "$child"
) >/dev/null 2>&1 &
watcher=$!
# The child alone holds the log, and with it the lock, from here on; nor does the shell comment on its end there.
exec 2>/dev/null
wait "$child"
status=$?
# Waited for: until it is really gone it may take a byte of the word that is meant for the loop below.
kill "$watcher"
wait "$watcher"
echo "exit $status"
if [ -n "$scratch" ]; then
    word=
    while read -r word <&3; do
        [ "$word" = leave ] && break
    done
    # Children of a killed server may still write for a moment after it has ended.
    left=100
    while [ "$word" != leave ] && [ "$left" -gt 0 ] && ! rm -rf "$scratch"; do
        sleep 0.1
        left=$((left - 1))
    done
fi
exit "$status"
"#;
