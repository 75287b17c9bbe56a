//! Memory that a program maps itself.

use std::{fs::File, os::fd::AsRawFd, ptr};

use crate::tell;

const PAGE: usize = 4096;

pub(crate) fn all() {
    anonymous();
    mapped_file();
    forked();
}

fn map(length: usize, protection: i32, flags: i32, fd: i32) -> *mut u8 {
    // SAFETY: maps memory at a place where nothing is.
    let place = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, 0) };
    assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    place.cast()
}

fn anonymous() {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let place = map(4 * PAGE, both, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    // SAFETY: the four pages were just mapped, and are used through this pointer alone.
    unsafe {
        place.add(3 * PAGE).write(5);
        tell("fresh memory", (place.read(), place.add(3 * PAGE).read()));
        tell("protect", libc::mprotect(place.cast(), PAGE, libc::PROT_READ));
        tell("grow", !libc::mremap(place.cast(), 4 * PAGE, 64 * PAGE, libc::MREMAP_MAYMOVE).is_null());
    }
    let place = map(2 * PAGE, both, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1);
    // SAFETY: as above.
    unsafe {
        place.write(9);
        libc::madvise(place.cast(), PAGE, libc::MADV_DONTNEED);
        tell("after MADV_DONTNEED", place.read());
        tell("unmap", libc::munmap(place.cast(), 2 * PAGE));
        tell("unmap at an odd address", libc::munmap(place.add(1).cast(), PAGE));
    }
}

fn mapped_file() {
    let path = "/tmp/conformance-map";
    std::fs::write(path, [3; 5000]).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let private = map(2 * PAGE, both, libc::MAP_PRIVATE, file.as_raw_fd());
    let shared = map(2 * PAGE, both, libc::MAP_SHARED, file.as_raw_fd());
    // SAFETY: two pages each, used through these pointers alone.
    unsafe {
        private.add(1).write(7);
        shared.add(2).write(8);
        tell("behind the file's end", shared.add(5000).read());
        tell("private", (private.read(), private.add(1).read()));
    }
    // SAFETY: nothing is mapped: no file has such offsets.
    let far = unsafe {
        libc::mmap(
            ptr::null_mut(),
            2 * PAGE,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            -(PAGE as i64),
        )
    };
    tell(
        "at an offset that wraps",
        (far == libc::MAP_FAILED, std::io::Error::last_os_error().raw_os_error()),
    );
    let bytes = std::fs::read(path).unwrap();
    tell("the file", (bytes.len(), bytes[1], bytes[2]));
    std::fs::remove_file(path).unwrap();
}

/// A child has a copy of private memory, and the same shared memory.
fn forked() {
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let shared = map(PAGE, both, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
    let mut own = vec![1u8; 3 * PAGE];
    let mut status = 0;
    // SAFETY: the child only writes memory and ends; there is no other thread.
    unsafe {
        match libc::fork() {
            0 => {
                own[PAGE] = 2;
                shared.write(own[PAGE] + own[0]);
                libc::_exit(4);
            }
            child => tell("waited for the child", libc::waitpid(child, &raw mut status, 0) == child),
        }
        tell("the child's status", (libc::WIFEXITED(status), libc::WEXITSTATUS(status)));
        tell("shared and own memory", (shared.read(), own[PAGE]));
    }
}
