// A program in Rust that makes the requests itself, by the C library's ioctl.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::io::AsRawFd;
use std::thread;

extern "C" {
    fn ioctl(fd: i32, request: u64, ...) -> i32;
}

const BIND_INTERDOMAIN: u64 = 0x0008_4501;
const BIND_UNBOUND_PORT: u64 = 0x0004_4502;
const NOTIFY: u64 = 0x0004_4504;
const SELF: u32 = 0x7FF0;
const EVENTS: u32 = 100;

fn request(fd: i32, number: u64, words: &[u32]) -> u32 {
    let result = unsafe { ioctl(fd, number, words.as_ptr()) };
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result as u32
}

fn main() -> std::io::Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open("/dev/xen/evtchn");
    let (near, mut far) = (open()?, open()?);
    let offered = request(near.as_raw_fd(), BIND_UNBOUND_PORT, &[SELF]);
    let connected = request(far.as_raw_fd(), BIND_INTERDOMAIN, &[SELF, offered]);

    let reader = thread::spawn(move || -> std::io::Result<()> {
        let mut port = [0; 4];
        for _ in 0..=EVENTS {
            far.read_exact(&mut port)?;
            assert_eq!(u32::from_ne_bytes(port), connected);
            far.write_all(&port)?;
            request(far.as_raw_fd(), NOTIFY, &[connected]);
        }
        Ok(())
    });
    let mut near = near;
    for _ in 0..=EVENTS {
        let mut port = [0; 4];
        near.read_exact(&mut port)?;
        assert_eq!(u32::from_ne_bytes(port), offered);
        near.write_all(&port)?;
        request(near.as_raw_fd(), NOTIFY, &[offered]);
    }
    reader.join().unwrap()?;
    println!("{} events", EVENTS + 1);
    Ok(())
}
