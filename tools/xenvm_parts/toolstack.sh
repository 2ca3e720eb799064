# Give dom0 Xen's own tools, which have a root of their own: each program is a wrapper that does a
# chroot there. Sourced by init.sh. toolstack is that root, version is Xen's.
# shellcheck shell=sh disable=SC2154
tools=/system$toolstack
for shared in dev proc sys run tmp boot; do bind "/system/$shared" "$tools/$shared"; done
programs=/usr/lib/xen-$version/bin
rm -rf "/system$programs" /system/usr/sbin/xl
mkdir -p "/system$programs"
for program in "$tools$programs"/* "$tools"/usr/bin/xenstore*; do
    path=${program#"$tools"}
    rm -f "/system$path"
    cat >"/system$path" <<END
#!/bin/sh
exec /usr/sbin/chroot '$toolstack' $path "\$@"
END
    chmod 755 "/system$path"
done
ln -s "$programs/xl" /system/usr/sbin/xl
mkdir -p "$tools/var/lib/xen" "$tools/var/log/xen" "$tools/var/lib/xenstored"
