//! Calls about shared memory.

use handover_guest::abi::{
    Call, RequestFlags,
    layout::{MEMORY_BASE, WINDOW_SLOT},
};

use crate::{connections::word, limits, stream::Stream, window};

const PAGE: u64 = 4096;
/// What two ends find in it.
const MARK: u64 = 0x5a5a_1234;

/// A request for `1 << order` bytes.
pub(crate) fn memory(service: u64, flags: RequestFlags, order: u64) -> u64 {
    word(service, flags | RequestFlags::MEMORY) | order << 56
}

impl Stream {
    /// Asks somebody for shared memory, mostly itself.
    pub(crate) fn share(&mut self) {
        if self.ports.is_full() {
            return;
        }
        let order = self.random.one_of(&[12, 12, 12, 13, 16, 17, 21, 0, 11, 31, 63]);
        let (to, from) = (RequestFlags::SEND_ONLY, RequestFlags::RECEIVE_ONLY);
        let none = RequestFlags::empty();
        let flags = self.random.one_of(&[none, none, to, from, to | from, to | RequestFlags::EVENTS]);
        let [own, ..] = self.setting.peers;
        let partition = if self.random.one_in(4) { self.random.one_of(&self.setting.peers) } else { own };
        let service = 0x3000 + self.random.below(0x100);
        let answer = self.call(Call::Connect, &[partition, memory(service, flags, order)]);
        self.new_port(&answer);
    }

    /// A call about the shared memory of one of its ports, if it has any.
    pub(crate) fn shared_call(&mut self) {
        let port = self.port();
        match self.random.below(8) {
            0..3 => {
                let at = match self.random.below(8) {
                    0 => window::nowhere(&mut self.random),
                    _ => window::contested(&mut self.random),
                };
                self.call(Call::SharedMap, &[port, at]);
            }
            3..5 => _ = self.call(Call::SharedUnmap, &[port]),
            5 => _ = self.call(Call::SharedInfo, &[port]),
            _ => self.share(),
        }
    }
}

/// What of a short run's results chance alone would not make certain; and that both ends see the same, and the last one zeroes.
pub(crate) fn edges(stream: &mut Stream) {
    for (order, flags) in [(13, RequestFlags::empty()), (22, RequestFlags::SEND_ONLY)] {
        let Some((client, server)) = limits::joined(stream, |service| memory(service, flags, order)) else {
            return;
        };
        let taken = stream.slots.base() + WINDOW_SLOT;
        let holder = stream.call(Call::RegionCreate, &[PAGE, taken]);
        let wild = stream.wild();
        for at in [taken, MEMORY_BASE, taken + PAGE, taken + WINDOW_SLOT] {
            stream.call(Call::SharedMap, &[client, at]);
        }
        for call in [Call::SharedInfo, Call::SharedMap, Call::SharedUnmap] {
            stream.call(call, &[wild, taken]);
            stream.call(call, &[server, taken + 3 * WINDOW_SLOT]);
        }
        stream.call(Call::SharedUnmap, &[server]);
        if order == 13 {
            both_ends(stream, client, server, taken + 2 * WINDOW_SLOT);
        }
        stream.call(Call::Disconnect, &[client]);
        stream.call(Call::Disconnect, &[server]);
        stream.call(Call::RegionDestroy, &[holder.x[1]]);
    }
}

/// The client's end is mapped one slot in front of `at`, if nobody else has taken its place.
fn both_ends(stream: &mut Stream, client: u64, server: u64, at: u64) {
    let own = at - WINDOW_SLOT;
    if stream.call(Call::SharedInfo, &[client]).x[2] != own
        || !stream.call(Call::SharedMap, &[server, at]).done()
    {
        return stream.fail(format_args!("shared memory of its own is not where it was mapped"));
    }
    let word = |at: u64| handover_guest::mapping::address(at) as *mut u64;
    // SAFETY: shared memory of 8 KiB is mapped at both, which nothing refers to; both are aligned.
    let seen = unsafe {
        word(own + PAGE).write_volatile(MARK);
        word(at + PAGE).read_volatile()
    };
    stream.call(Call::Disconnect, &[client]);
    // SAFETY: the server's end stays mapped.
    let left = unsafe { word(at + PAGE).read_volatile() };
    if (seen, left) != (MARK, 0) {
        stream.fail(format_args!("the ends of shared memory see {seen:#x}, and {left:#x} is left"));
    }
}
