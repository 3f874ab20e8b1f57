mod choice;
mod issue;
mod roots;
mod samples;
mod serve;
mod signer;
