//! What is posted: data, where it goes, and what can be wrong with a post. Nothing here allocates.

use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;

use libc::c_int;

use super::ffi::{ibv_send_wr, ibv_sge};
use super::memory::Slice;
use super::numbers::{IBV_SEND_FENCE, IBV_SEND_INLINE, IBV_SEND_SIGNALED, IBV_SEND_SOLICITED};
use super::queue_pair::{NO_DATA, registered};

/// What a send or a write carries.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Nothing.
    Empty,
    /// These bytes, inside the request: no registration, and free again when the post returns.
    Inline(&'a [u8]),
    /// Registered memory, which has to stay as it is until the completion.
    Region(Slice<'a>),
}

/// How a request is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// It completes visibly. The send queue gets room only by visible completions: each stands for those before it.
    pub signaled: bool,
    /// A channel that waits for solicited completions alone wakes at the peer.
    pub solicited: bool,
    /// It waits for reads and atomics before it (RC).
    pub fenced: bool,
}

impl Flags {
    /// A request with a completion.
    pub const SIGNALED: Self = Self { signaled: true, solicited: false, fenced: false };
    /// A request without one.
    pub const SILENT: Self = Self { signaled: false, solicited: false, fenced: false };

    #[inline]
    const fn bits(self) -> u32 {
        (if self.signaled { IBV_SEND_SIGNALED } else { 0 })
            | (if self.solicited { IBV_SEND_SOLICITED } else { 0 })
            | (if self.fenced { IBV_SEND_FENCE } else { 0 })
    }
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Poll completions first.
    #[error("the queue is full")]
    Full,
    /// More than the queue pair carries inside a request.
    #[error("{length} octets do not fit inside a request, which takes {max}")]
    TooLongForInline {
        /// Octets.
        length: usize,
        /// What fits.
        max: u32,
    },
    /// A way of one protection domain and a queue pair of another.
    #[error("the address handle is of another protection domain")]
    ForeignAddressHandle,
    /// Any other refusal.
    #[error("the device does not take the request")]
    Refused(#[source] io::Error),
}

impl PostError {
    #[inline]
    pub(super) fn of(rc: c_int) -> Result<(), Self> {
        match rc {
            0 => Ok(()),
            // Providers return the errno, some of them negative.
            libc::ENOMEM | NEGATIVE_ENOMEM => Err(Self::Full),
            -1 => Err(Self::Refused(io::Error::last_os_error())),
            rc => Err(Self::Refused(io::Error::from_raw_os_error(rc.saturating_abs()))),
        }
    }
}

const NEGATIVE_ENOMEM: c_int = -libc::ENOMEM;

/// A request before its operation is filled in, and its data.
#[inline]
pub(super) fn request(
    id: u64,
    data: &Data<'_>,
    flags: Flags,
    max_inline_bytes: u32,
) -> Result<(ibv_send_wr, ibv_sge), PostError> {
    // SAFETY: all-zero octets are valid for this struct of integers, null pointers and unions of these.
    let mut request: ibv_send_wr = unsafe { zeroed() };
    request.wr_id = id;
    request.next = null_mut();
    request.send_flags = flags.bits();
    request.num_sge = 1;
    let part = match data {
        Data::Empty => {
            request.num_sge = 0;
            NO_DATA
        }
        Data::Region(slice) => registered(slice),
        Data::Inline(bytes) => {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            if length > max_inline_bytes {
                let length = bytes.len();
                return Err(PostError::TooLongForInline { length, max: max_inline_bytes });
            }
            request.send_flags |= IBV_SEND_INLINE;
            // The provider copies from here before the post returns, and asks for no key.
            ibv_sge { addr: bytes.as_ptr().expose_provenance() as u64, length, lkey: 0 }
        }
    };
    Ok((request, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_data_that_does_not_fit_is_refused_before_the_provider_sees_it() {
        let fits = request(7, &Data::Inline(&[1; 16]), Flags::SIGNALED, 16).unwrap();
        assert_eq!(fits.0.send_flags, IBV_SEND_INLINE | IBV_SEND_SIGNALED);
        assert_eq!((fits.1.length, fits.0.num_sge, fits.0.wr_id), (16, 1, 7));
        let too_long = request(7, &Data::Inline(&[1; 17]), Flags::SIGNALED, 16);
        assert!(matches!(too_long, Err(PostError::TooLongForInline { length: 17, max: 16 })));
        let empty = request(7, &Data::Empty, Flags::SILENT, 0).unwrap();
        assert_eq!((empty.0.num_sge, empty.0.send_flags), (0, 0));
    }

    #[test]
    fn a_full_queue_is_told_from_other_refusals() {
        assert!(PostError::of(0).is_ok());
        assert!(matches!(PostError::of(libc::ENOMEM), Err(PostError::Full)));
        assert!(matches!(PostError::of(-libc::ENOMEM), Err(PostError::Full)));
        let Err(PostError::Refused(error)) = PostError::of(libc::EINVAL) else { panic!() };
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
