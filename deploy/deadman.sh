#!/bin/sh
# Kernwave's dead-man. In a boot into a kernel on trial it waits until someone says, on this host, that the local
# checks passed. When nobody has by the deadline, it reboots the machine, which returns to its old kernel.
#
# It needs no agent, no network, no journal and no writable disk: only a shell, sleep, and something that reboots.
# From the kernel command line: kernwave.trial=OPERATION kernwave.deadman=SECONDS, counted from boot.
#
# KERNWAVE_ROOT, KERNWAVE_STEP and KERNWAVE_PATIENCE exist for tests.
set -fu

root=${KERNWAVE_ROOT:-}
step=${KERNWAVE_STEP:-2}
patience=${KERNWAVE_PATIENCE:-60}
PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
# systemctl must not take the short way into a kernel that someone loaded: the way back is the boot loader's.
export SYSTEMCTL_SKIP_AUTO_KEXEC=1

say() { echo "kernwave-deadman: $*"; }

# wait_for PID SECONDS: wait for a child, but not for ever. A disk that hangs must not keep us from rebooting.
wait_for() {
	left=$2
	while [ "$left" -gt 0 ] && kill -0 "$1" 2>/dev/null; do
		sleep 1
		left=$((left - 1))
	done
}

op=
deadline=
line=
read -r line <"$root/proc/cmdline" || [ -n "$line" ] || say "cannot read the kernel command line"
for word in $line; do
	case $word in
	kernwave.trial=*) op=${word#*=} ;;
	kernwave.deadman=*) deadline=${word#*=} ;;
	esac
done
if [ -z "$op" ]; then
	say "this is no trial"
	exit 0
fi
# A deadline that cannot be read is no reason to wait for ever.
case $deadline in
'' | *[!0-9]* | ????????*) say "kernwave.deadman=$deadline is no number of seconds, taking 900"; deadline=900 ;;
esac
say "trial $op: rebooting at $deadline s after boot unless its checks pass"

while :; do
	passed=
	[ -r "$root/run/kernwave/checks-passed" ] && read -r passed <"$root/run/kernwave/checks-passed"
	if [ "$passed" = "$op" ]; then
		say "trial $op: the checks passed"
		exit 0
	fi
	up=0
	read -r up _ <"$root/proc/uptime"
	[ "${up%%.*}" -ge "$deadline" ] && break
	sleep "$step"
done

say "trial $op: nobody said within $deadline s that the checks passed; rebooting"

# Leave a note for the agent of the old kernel. Best effort, and not waited for longer than 10 s.
case $op in
*[!A-Za-z0-9._-]* | .*) note= ;; # not one of ours: no file name either
*) note=$root/var/lib/kernwave/deadman-$op ;;
esac
if [ -n "$note" ]; then
	(
		mkdir -p "${note%/*}" && echo "fired $up s after boot, deadline $deadline s" >"$note" && sync
	) 2>/dev/null &
	wait_for $! 10
fi

# First politely with the services killed and the disks unmounted, then without, then by the kernel's own key.
for force in --force '--force --force'; do
	# shellcheck disable=SC2086 # one or two words
	systemctl reboot $force &
	wait_for $! "$patience"
	sleep "$patience"
done
say "systemctl did not reboot; asking the kernel"
echo 1 >"$root/proc/sys/kernel/sysrq"
for key in s u b; do
	echo $key >"$root/proc/sysrq-trigger"
	sleep "$step"
done
exit 1 # still here: the service manager starts this again
