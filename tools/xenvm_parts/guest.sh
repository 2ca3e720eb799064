# dom0's part when the command runs in a guest: start the guest, and end with it.
# Sourced by init.sh. version is Xen's; dom0's root has Xen's own tools.
programs=/usr/lib/xen-$version/bin
tool() { # PROGRAM ARGUMENT...
    chroot /system /usr/bin/env -i PATH="$programs:/usr/sbin:/usr/bin:/sbin:/bin" "$@" </dev/null
}
bind /host /system/host
bind /results /system/results
cp /guest.cfg /system/guest.cfg
cd /system
mkdir -p run/xen run/xenstored var/lib/xen var/lib/xenstored var/log/xen
tool xenstored --pid-file /run/xenstored.pid
tool xen-init-dom0
tool xenconsoled --pid-file /run/xenconsoled.pid
# xl shows the guest's console here, and returns when the guest is gone.
tool xl create -c -q /guest.cfg
poweroff -f
