#!/bin/busybox sh
# A domain's first process: make the root of the host's files, run the command, end the domain.
# If a step fails, this script exits; the kernel panics without it, which ends the domain.
set -e
/bin/busybox --install -s /bin

mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done

# The host's files are below /host; changes stay in memory.
mkdir /host /memory /system /results
mount -t tmpfs -o mode=755 memory /memory

plan9() { # TAG DIRECTORY OPTIONS
    mount -t 9p -o "trans=$transport,version=9p2000.L,msize=512000,$3" "$1" "$2"
}

overlay() { # DIRECTORY TARGET [ABOVE]: mount the directory at the target, writable, below another
    number=$((number + 1))
    mkdir -p "/memory/$number/lower" "/memory/$number/upper" "/memory/$number/work" "$2"
    mount --bind "$1" "/memory/$number/lower"
    (
        cd "/memory/$number"
        mount -t overlay -o "lowerdir=${3:+$3:}lower,upperdir=upper,workdir=work" overlay "$2"
    )
}

bind() { # PATH TARGET: mount the path at the target
    if [ -d "$1" ]; then
        mkdir -p "$2"
    else
        mkdir -p "${2%/*}"
        touch "$2"
    fi
    mount --rbind "$1" "$2"
}

# It sets transport, base, share, part and part's variables, and defines lay_out and run_command.
. /job.sh

plan9 host /host ro,cache=loose
plan9 results /results cache=none
overlay "/host$base" /system /copies
lay_out

mount -t proc proc /system/proc
mount -t xenfs xenfs /system/proc/xen
mount -t sysfs sys /system/sys
mount -t devtmpfs dev /system/dev
mkdir -p /system/dev/pts /system/dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /system/dev/pts
mount -t tmpfs -o mode=1777 shm /system/dev/shm
mount -t tmpfs -o mode=755 run /system/run
mkdir -m 1777 /system/run/lock
ln -s /proc/self/fd /system/dev/fd
ln -s fd/0 /system/dev/stdin
ln -s fd/1 /system/dev/stdout
ln -s fd/2 /system/dev/stderr
if [ "$share" ]; then
    mkdir -p "/system$share"
    plan9 share "/system$share" cache=mmap
fi
ip link set lo up
hostname xenvm
[ -z "$part" ] || . "/$part"

# Make /system the root of the mount tree: in a chroot the kernel refuses user namespaces. This
# script itself stays in the initramfs.
cd /system
mount --move . /

# Pipes, not the files themselves: a command that reopens /dev/stderr would truncate a file.
mkfifo /stdout /stderr
cat </stdout >/results/stdout & stdout=$!
cat </stderr >/results/stderr & stderr=$!
touch /results/started
echo '<1>xenvm: the command starts' >/dev/kmsg
run_command </dev/null >/stdout 2>/stderr & command=$!
status=0
wait $command || status=$?

# Processes that the command left running hold the pipes open.
for process in /proc/[0-9]*; do
    case ${process#/proc/} in
        1 | $stdout | $stderr) ;;
        *) kill -KILL "${process#/proc/}" || true ;;
    esac
done
wait $stdout $stderr
sync
echo $status >/results/unfinished
mv /results/unfinished /results/status
poweroff -f
