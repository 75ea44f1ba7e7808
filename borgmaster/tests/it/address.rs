//! Addresses of daemons that tests start. Used by the tests of other crates too.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// An address at which nobody listens, and that nobody else is given: each process of tests has a part of
/// loopback (127.0.0.0/8) of its own, by its number, and takes its ports in turn. A port that the kernel chose
/// and that is free again could be chosen twice.
pub(crate) fn free_address() -> String {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);
    // Linux numbers processes with 22 bits at most (PID_MAX_LIMIT).
    let [_, high, middle, low] = process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 64 | high, middle, low);
    let next = || SocketAddrV4::new(own, NEXT_PORT.fetch_add(1, Ordering::Relaxed));
    let is_free = |address: &SocketAddrV4| TcpListener::bind(address).is_ok();
    let free = std::iter::repeat_with(next).take(1_000).find(is_free);
    free.unwrap_or_else(|| panic!("no port of {own} is free")).to_string()
}
