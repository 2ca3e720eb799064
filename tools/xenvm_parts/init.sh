#!/bin/busybox sh
# The guest's first process: makes the host's root the command's, runs the command, ends the machine.
# Where a step fails this script ends, and with it the machine: the kernel panics without it.
set -e
/bin/busybox --install -s /bin

# share, modules, kernel (paths of the host) and run_command.
. /job.sh

mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done

plan9=trans=virtio,version=9p2000.L,msize=512000
mkdir /lower /upper /system /results
mount -t 9p -o $plan9,ro,cache=loose host /lower
mount -t tmpfs -o mode=755 upper /upper
mkdir /upper/changes /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work system /system
mount -t 9p -o $plan9,cache=none results /results

mkdir -p "/system/lib/modules/$(uname -r)"
mount --bind "/system$modules" "/system/lib/modules/$(uname -r)"
touch "/system/boot/vmlinuz-$(uname -r)"
mount --bind "/system$kernel" "/system/boot/vmlinuz-$(uname -r)"

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
    mount -t 9p -o $plan9,cache=mmap share "/system$share"
fi
ip link set lo up
hostname xenvm

# The root of the mount tree, and not a directory below it: in a mere chroot the kernel refuses
# user namespaces. This script itself stays in the first root.
cd /system
mount --move . /

# Pipes, not the files themselves: a command that opens /dev/stderr anew would truncate a file.
mkfifo /stdout /stderr
cat </stdout >/results/stdout & stdout=$!
cat </stderr >/results/stderr & stderr=$!
touch /results/started
echo '<1>xenvm: the command starts' >/dev/kmsg
run_command </dev/null >/stdout 2>/stderr & command=$!
status=0
wait $command || status=$?

# What the command left running holds the pipes open.
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
