//! Who may say what when, and how long each end waits for it. Time and messages come in, messages go out.

use std::time::Duration;

use super::{
    Accept, Agreed, Disagreement, Message, Offer, RdmaEndpoint, Refusal, RefusalReason, Wrong,
};
use crate::time::Monotonic;

/// An end says that it lives so often within the time after which it is taken for dead: two may get lost in a stall.
const KEEPS: u32 = 3;
/// An end may move this often at once, and once a second after that. Each move makes the other end build a queue pair: a peer
/// that moves for ever would have it do nothing else.
const MOVES: u32 = 16;
const MOVE_EVERY: Duration = Duration::from_secs(1);

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It offers.
    Prober,
    /// It answers.
    Responder,
}

/// What a message means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To the responder: make ready, then [`Conversation::accept`] or [`Conversation::refuse`].
    Offered(Box<Offer>),
    /// To the prober: connect to it and begin.
    Accepted(Box<Accept>, Agreed),
    /// To the prober: over.
    Refused(Refusal),
    /// The peer has another address or queue pair: connect to it, then [`Conversation::settle`]. A connection needs a new queue
    /// pair of this end, too.
    PeerMoved(Box<RdmaEndpoint>, Agreed),
    /// The answer to this end's move: connect to it.
    PeerSettled(Box<RdmaEndpoint>, Agreed),
    /// It lives.
    Alive,
    /// The peer has ended it: over.
    Closed,
}

/// The peer said what it may not; over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unexpected {
    /// Not now.
    #[error("the peer sent {message} {when}")]
    Order {
        /// Which message.
        message: &'static str,
        /// When.
        when: &'static str,
    },
    /// Not with what was said before.
    #[error("the peer's {message} does not fit: {why}")]
    Misfit {
        /// Which message.
        message: &'static str,
        /// Why.
        why: Disagreement,
    },
    /// Too many moves.
    #[error("the peer moved more than {MOVES} times at once")]
    Moves,
}

/// A wait that has ended without an answer; over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer {waited_for} within {limit:?}")]
pub struct Silence {
    /// What did not come.
    pub waited_for: &'static str,
    /// How long was waited.
    pub limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Responder: nothing was said yet.
    Listening,
    /// Responder: the program makes ready.
    Answering,
    /// Prober: the offer is out.
    Offering,
    /// Both may probe and move.
    Established,
    Over,
}

/// One end of one connection.
#[derive(Debug)]
pub struct Conversation {
    role: Role,
    state: State,
    /// The offer, with the prober's end as it is now.
    offer: Option<Box<Offer>>,
    /// The responder's end as it is now.
    responder: Option<Box<RdmaEndpoint>>,
    /// How long an answer may take.
    patience: Duration,
    /// After how long without a word the peer is taken for dead.
    silence: Duration,
    /// When the present wait for an answer began.
    waiting_since: Option<Monotonic>,
    heard: Monotonic,
    said: Monotonic,
    /// Until when the peer has used up its moves.
    moves_used: Monotonic,
}

impl Conversation {
    /// The prober's end, and what to send first. `patience`: how long an answer may take, the peer's time to make ready included.
    ///
    /// # Errors
    /// When the offer contradicts itself.
    pub fn offer(
        offer: Offer,
        now: Monotonic,
        patience: Duration,
    ) -> Result<(Self, Message), Wrong> {
        offer.check()?;
        let message = Message::Offer(Box::new(offer.clone()));
        let mut own = Self::new(Role::Prober, State::Offering, now, patience);
        own.offer = Some(Box::new(offer));
        Ok((own, message))
    }

    /// The responder's end of a fresh connection.
    pub const fn listen(now: Monotonic, patience: Duration) -> Self {
        Self::new(Role::Responder, State::Listening, now, patience)
    }

    const fn new(role: Role, state: State, now: Monotonic, patience: Duration) -> Self {
        Self {
            role,
            state,
            offer: None,
            responder: None,
            patience,
            silence: patience,
            waiting_since: Some(now),
            heard: now,
            said: now,
            moves_used: now,
        }
    }

    /// Whether both ends are connected.
    pub fn is_established(&self) -> bool {
        self.state == State::Established
    }

    /// Whether nothing more is to be said or heard.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// What the peer says. After an error, and after [`Event::Refused`] and [`Event::Closed`], the conversation is over: close
    /// the connection and what was made for it.
    ///
    /// # Errors
    /// When it may not say that.
    pub fn hear(&mut self, message: Message, now: Monotonic) -> Result<Event, Unexpected> {
        let heard = self.understand(message, now);
        match &heard {
            Ok(Event::Refused(_) | Event::Closed) | Err(_) => self.state = State::Over,
            Ok(_) => self.heard = now,
        }
        heard
    }

    fn understand(&mut self, message: Message, now: Monotonic) -> Result<Event, Unexpected> {
        let word = message.as_str();
        let out_of_order = |when| Err(Unexpected::Order { message: word, when });
        match (self.state, message) {
            (State::Over, _) => out_of_order("after the end"),
            (_, Message::Close) => Ok(Event::Closed),
            (State::Listening, Message::Offer(offer)) => {
                (self.state, self.waiting_since) = (State::Answering, None);
                self.offer = Some(offer.clone());
                Ok(Event::Offered(offer))
            }
            (State::Listening, _) => out_of_order("before an offer"),
            // Making ready may take longer than the peer's keeping silent.
            (State::Answering | State::Offering, Message::Keep) => Ok(Event::Alive),
            (State::Answering, _) => out_of_order("before it was answered"),
            (State::Offering, Message::Accept(accept)) => {
                let agreed = self.set_peer(word, accept.endpoint.clone())?;
                (self.state, self.waiting_since) = (State::Established, None);
                self.silence = Duration::from_millis(accept.silence_ms.into());
                self.said = now;
                Ok(Event::Accepted(accept, agreed))
            }
            (State::Offering, Message::Refuse(refusal)) => Ok(Event::Refused(refusal)),
            (State::Offering, _) => out_of_order("instead of an answer"),
            (State::Established, Message::Keep) => Ok(Event::Alive),
            (State::Established, Message::Moved(endpoint)) => {
                self.count_move(now)?;
                let agreed = self.set_peer(word, (*endpoint).clone())?;
                Ok(Event::PeerMoved(endpoint, agreed))
            }
            (State::Established, Message::Settled(endpoint)) => {
                if self.waiting_since.take().is_none() {
                    return out_of_order("without a move");
                }
                let agreed = self.set_peer(word, (*endpoint).clone())?;
                Ok(Event::PeerSettled(endpoint, agreed))
            }
            (State::Established, Message::Offer(_) | Message::Accept(_) | Message::Refuse(_)) => {
                out_of_order("after both had agreed")
            }
        }
    }

    /// Takes note of where the peer is now, and whether both still go together.
    fn set_peer(
        &mut self,
        message: &'static str,
        peer: RdmaEndpoint,
    ) -> Result<Agreed, Unexpected> {
        match (self.role, &mut self.offer) {
            (Role::Prober, _) | (Role::Responder, None) => self.responder = Some(Box::new(peer)),
            (Role::Responder, Some(offer)) => {
                offer.endpoint = peer;
                let checked = offer.check();
                checked.map_err(|why| Unexpected::Misfit { message, why: why.into() })?;
            }
        }
        self.agreed().map_err(|why| Unexpected::Misfit { message, why })
    }

    fn agreed(&self) -> Result<Agreed, Disagreement> {
        match (&self.offer, &self.responder) {
            (Some(offer), Some(responder)) => offer.agree(responder),
            // Never without both: only ends that have agreed move.
            _ => Err(Wrong::QueuePair(0).into()),
        }
    }

    fn set_own(&mut self, own: &RdmaEndpoint) {
        match (self.role, &mut self.offer) {
            (Role::Prober, Some(offer)) => offer.endpoint = own.clone(),
            _ => self.responder = Some(Box::new(own.clone())),
        }
    }

    fn count_move(&mut self, now: Monotonic) -> Result<(), Unexpected> {
        let used = self.moves_used.max(now).saturating_add(MOVE_EVERY);
        if used > now.saturating_add(MOVE_EVERY * MOVES) {
            return Err(Unexpected::Moves);
        }
        self.moves_used = used;
        Ok(())
    }

    /// The responder's yes, when it is ready to receive: what to send.
    ///
    /// # Errors
    /// When its end is not what was offered for; [`refuse`](Self::refuse) with that.
    pub fn accept(
        &mut self,
        accept: Accept,
        now: Monotonic,
    ) -> Result<(Message, Agreed), Disagreement> {
        accept.check()?;
        self.responder = Some(Box::new(accept.endpoint.clone()));
        let agreed = self.agreed()?;
        self.silence = Duration::from_millis(accept.silence_ms.into());
        (self.state, self.said, self.heard) = (State::Established, now, now);
        Ok((Message::Accept(Box::new(accept)), agreed))
    }

    /// The responder's no: what to send before the connection ends.
    pub fn refuse(&mut self, reason: RefusalReason, sentence: &str) -> Message {
        self.state = State::Over;
        Message::Refuse(Refusal::new(reason, sentence))
    }

    /// This end has moved: what to send. The answer is [`Event::PeerSettled`]. Where both move at once each answers the
    /// other's, and both end with the newest of both.
    pub fn moved(&mut self, own: RdmaEndpoint, now: Monotonic) -> Message {
        self.set_own(&own);
        (self.waiting_since, self.said) = (Some(now), now);
        Message::Moved(Box::new(own))
    }

    /// This end is connected to the one that moved: what to send.
    pub fn settle(&mut self, own: RdmaEndpoint, now: Monotonic) -> Message {
        self.set_own(&own);
        self.said = now;
        Message::Settled(Box::new(own))
    }

    /// This end ends it: what to send.
    pub const fn close(&mut self) -> Message {
        self.state = State::Over;
        Message::Close
    }

    /// When [`on_time`](Self::on_time) has something to say; `None` when it is over. A driver's wait never is longer.
    pub fn wake(&self) -> Option<Monotonic> {
        if self.is_over() {
            return None;
        }
        let waited = self.waiting_since.map(|since| since.saturating_add(self.patience));
        let dead = self.is_established().then(|| self.heard.saturating_add(self.silence));
        let keep = self.is_established().then(|| self.said.saturating_add(self.silence / KEEPS));
        // A responder that never answers is its program's fault; its peer's patience ends that.
        [waited, dead, keep].into_iter().flatten().min()
    }

    /// What to send because time has passed.
    ///
    /// # Errors
    /// When a wait has ended; over.
    pub fn on_time(&mut self, now: Monotonic) -> Result<Option<Message>, Silence> {
        if self.is_over() {
            return Ok(None);
        }
        let waited = self.waiting_since.filter(|since| now >= since.saturating_add(self.patience));
        if waited.is_some() {
            let waited_for = match self.state {
                State::Listening => "offered nothing",
                State::Offering => "did not answer the offer",
                _ => "did not settle after a move",
            };
            self.state = State::Over;
            return Err(Silence { waited_for, limit: self.patience });
        }
        if !self.is_established() {
            return Ok(None);
        }
        if now >= self.heard.saturating_add(self.silence) {
            self.state = State::Over;
            return Err(Silence { waited_for: "said nothing", limit: self.silence });
        }
        if now >= self.said.saturating_add(self.silence / KEEPS) {
            self.said = now;
            return Ok(Some(Message::Keep));
        }
        Ok(None)
    }
}
