mod driver;
mod experiments;
mod invariants;
mod reflector;
mod rules;
mod world;
