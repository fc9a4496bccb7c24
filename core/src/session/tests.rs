mod driver;
mod experiments;
mod invariants;
mod packets;
mod reflector;
mod rules;
mod world;
