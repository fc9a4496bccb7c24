//! What a probe does and how its end is seen. Each choice makes a latency of its own: none is merged with another.

/// Enums with a word for results and arguments, and a code for the wire.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $choice:ident = $code:literal $word:literal,)* })*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$about])* $choice,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$choice),*];

            /// The word used in results and arguments.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$choice => $word,)* }
            }

            /// The code used on wires and in files; never renumbered, 0 is none.
            pub const fn code(self) -> u8 {
                match self { $(Self::$choice => $code,)* }
            }

            /// From its code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$choice),)* _ => None }
            }

            /// From its word.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.as_str() == word)
            }
        }
    )* };
}

choices! {
    /// The service of a queue pair (IB spec section 3.5.10).
    Service {
        /// Unreliable datagram: one queue pair reaches all peers, and loss shows as loss.
        Datagram = 1 "rdma-ud",
        /// Reliable connection: what jobs use, and loss shows as delay.
        Connection = 2 "rdma-rc",
    }

    /// What a probe asks of the device (IB spec section 9.4).
    Operation {
        /// Send to a posted receive; answered by a send.
        Send = 1 "send",
        /// Write into the peer's memory; answered by a write.
        Write = 2 "write",
        /// Read the peer's memory: its device answers, no program there.
        Read = 3 "read",
        /// Fetch and add on 8 octets of the peer's memory: its device answers.
        Atomic = 4 "atomic",
    }

    /// How the arrival of data is seen.
    Completion {
        /// By a completion queue entry: sends, reads, atomics.
        Queue = 1 "queue",
        /// A write: by its last octet in memory. Needs data placed in order (`ibv_query_qp_data_in_order(3)`), and memory that a
        /// CPU may watch.
        Memory = 2 "memory",
        /// A write: by the completion queue entry that its immediate data makes at the receiver.
        Immediate = 3 "imm",
    }

    /// What is measured with an operation.
    Measure {
        /// One at a time.
        Latency = 1 "latency",
        /// Several outstanding.
        Bandwidth = 2 "bandwidth",
    }

    /// Where the data is and how the device reaches it. Part of every result: memory of a GPU is never replaced by the host's
    /// unsaid.
    MemoryRoute {
        /// Memory of the host.
        Host = 1 "host",
        /// A GPU's, by a dma-buf (`ibv_reg_dmabuf_mr(3)`).
        Dmabuf = 2 "gpu-dmabuf",
        /// A GPU's, by its address, with `nvidia_peermem` loaded.
        Peermem = 3 "gpu-peermem",
    }

    /// How completions are waited for. By interrupt adds microseconds.
    Polling {
        /// By looking, all the time.
        Busy = 1 "busy",
        /// By interrupt (`ibv_req_notify_cq(3)`).
        Event = 2 "event",
    }

    /// The clock of completion queue entries (`ibv_create_cq_ex(3)`).
    CompletionStamps {
        /// None: the program looks at its own.
        Software = 1 "software",
        /// Ticks of the device.
        Raw = 2 "raw",
        /// Nanoseconds of the device's clock, or derived from the host's, which may step.
        Wallclock = 3 "wallclock",
    }
}

/// Octets of an atomic: all devices do that size and no other (IB spec section 9.4.5).
pub const ATOMIC_OCTETS: u32 = 8;

/// What cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Impossible {
    /// A datagram knows only send.
    #[error("rdma-ud knows only send, not {}", .0.as_str())]
    Datagram(Operation),
    /// Completion and operation.
    #[error("{} cannot complete by {}", .operation.as_str(), .completion.as_str())]
    Completion {
        /// The operation.
        operation: Operation,
        /// The completion.
        completion: Completion,
    },
    /// The CPU watches no GPU memory: the device's writes to it are not ordered for the CPU, and each look goes over PCIe.
    #[error("memory of a GPU is not watched by the CPU; use --completion imm, send or read")]
    WatchedGpu,
    /// Bandwidth is that of writes and reads.
    #[error("bandwidth is measured by rdma-rc write or read, not {}", .0.as_str())]
    Bandwidth(Operation),
}

/// How one path is probed over verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method {
    /// Over what.
    pub service: Service,
    /// By what.
    pub operation: Operation,
    /// What of it.
    pub measure: Measure,
    /// How its end is seen.
    pub completion: Completion,
}

impl Method {
    /// Latency with what `operation` completes by if nobody says otherwise; writes by memory where data is placed in order and
    /// the CPU may look.
    pub const fn latency(service: Service, operation: Operation, watchable: bool) -> Self {
        let completion = match operation {
            Operation::Write if watchable => Completion::Memory,
            Operation::Write => Completion::Immediate,
            Operation::Send | Operation::Read | Operation::Atomic => Completion::Queue,
        };
        Self { service, operation, measure: Measure::Latency, completion }
    }

    /// Whether it can be done with memory reached by `route` at either end.
    ///
    /// # Errors
    /// What does not go together.
    pub fn check(&self, route: MemoryRoute) -> Result<(), Impossible> {
        let Self { service, operation, measure, completion } = *self;
        if service == Service::Datagram && operation != Operation::Send {
            return Err(Impossible::Datagram(operation));
        }
        let by_queue = completion == Completion::Queue;
        let of_write = operation == Operation::Write;
        if measure == Measure::Bandwidth {
            let measured =
                service == Service::Connection && (of_write || operation == Operation::Read);
            if !measured {
                return Err(Impossible::Bandwidth(operation));
            }
            // Nobody waits for the single write: its own acknowledgements are counted.
            return if by_queue {
                Ok(())
            } else {
                Err(Impossible::Completion { operation, completion })
            };
        }
        if by_queue == of_write {
            return Err(Impossible::Completion { operation, completion });
        }
        if completion == Completion::Memory && route != MemoryRoute::Host {
            return Err(Impossible::WatchedGpu);
        }
        Ok(())
    }

    /// Whether the peer's program takes part, or its device alone answers.
    pub const fn is_answered_by_program(&self) -> bool {
        matches!(self.measure, Measure::Latency)
            && matches!(self.operation, Operation::Send | Operation::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_words_come_back() {
        for &operation in Operation::ALL {
            assert_eq!(Operation::from_code(operation.code()), Some(operation));
            assert_eq!(Operation::from_word(operation.as_str()), Some(operation));
        }
        assert_eq!((Completion::from_code(0), Completion::from_word("")), (None, None));
    }

    #[test]
    fn only_what_goes_together_is_let_through() {
        let mut possible = Vec::new();
        for &service in Service::ALL {
            for &operation in Operation::ALL {
                for &measure in Measure::ALL {
                    for &completion in Completion::ALL {
                        let method = Method { service, operation, measure, completion };
                        for &route in MemoryRoute::ALL {
                            if method.check(route).is_ok() {
                                possible.push([
                                    service.as_str(),
                                    operation.as_str(),
                                    measure.as_str(),
                                    completion.as_str(),
                                    route.as_str(),
                                ]);
                            }
                        }
                    }
                }
            }
        }
        let count = |what: fn(&[&str; 5]) -> bool| possible.iter().filter(|one| what(one)).count();
        assert_eq!(count(|one| one[0] == "rdma-ud"), 3, "send, on any memory: {possible:?}");
        assert_eq!(count(|one| one[3] == "memory"), 1, "a write on the host: {possible:?}");
        assert_eq!(count(|one| one[2] == "bandwidth"), 6, "{possible:?}");
        assert_eq!(possible.len(), 3 + 3 + 1 + 3 + 3 + 3 + 6, "{possible:?}");
    }

    #[test]
    fn a_write_that_cannot_be_watched_has_an_immediate() {
        let completion = |operation, watchable| {
            Method::latency(Service::Connection, operation, watchable).completion
        };
        assert_eq!(completion(Operation::Write, true), Completion::Memory);
        assert_eq!(completion(Operation::Write, false), Completion::Immediate);
        assert_eq!(completion(Operation::Read, true), Completion::Queue);
    }
}
