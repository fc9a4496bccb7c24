//! Makes connections on a thread of its own: while the path is dead, the probe thread still counts its slots.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::link::RcLink;
use super::{ConnectError, RcPlan};
use crate::WaitMode;

/// Between two tries: long enough not to burden a responder that comes up, short against the windows that paths have to be back in.
const BACK_OFF: Duration = Duration::from_millis(200);

/// The thread's two ends. Dropped, it ends when its present try has.
pub(super) struct Connector {
    ask: Sender<RcLink>,
    links: Receiver<Tried>,
}

/// What a try came to.
pub(super) enum Tried {
    /// A new connection.
    Connected(Box<RcLink>),
    /// None, for the moment.
    Failed(ConnectError),
}

impl Connector {
    /// Starts it.
    pub fn start(plan: RcPlan, mode: WaitMode) -> std::io::Result<Self> {
        let (ask, asked) = mpsc::channel();
        let (tell, links) = mpsc::channel();
        let name = thread::Builder::new().name("connector".to_owned());
        name.spawn(move || connect(&plan, mode, &asked, &tell))?;
        Ok(Self { ask, links })
    }

    /// Takes a connection that is of no more use, and makes another. Ending one takes longer than a slot.
    pub fn replace(&self, broken: RcLink) {
        // The thread ends with this value alone.
        let _ = self.ask.send(broken);
    }

    /// What came of it, if anything did since the last question.
    pub fn news(&self) -> Option<Tried> {
        self.links.try_recv().ok()
    }
}

fn connect(plan: &RcPlan, mode: WaitMode, asked: &Receiver<RcLink>, tell: &Sender<Tried>) {
    while let Ok(broken) = asked.recv() {
        drop(broken);
        loop {
            let tried = match RcLink::connect(plan, mode) {
                Ok(link) => Tried::Connected(Box::new(link)),
                Err(why) => Tried::Failed(why),
            };
            let connected = matches!(tried, Tried::Connected(_));
            if tell.send(tried).is_err() {
                return;
            }
            if connected {
                break;
            }
            // Nothing is asked before an answer, so this only waits, and hears that nobody wants it any more.
            match asked.recv_timeout(BACK_OFF) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) | Ok(_) => return,
            }
        }
    }
}
