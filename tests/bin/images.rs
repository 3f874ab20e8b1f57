//! Builds the images of hub and agent as OCI archives and prints what they are and how to load them.

use std::process::ExitCode;

use support::image::{self, Image};

fn main() -> ExitCode {
    match image::build() {
        Ok(images) => {
            for image in [&images.hub, &images.agent] {
                print(image);
            }
            println!(
                "\nEach loads with one of\n\
                 \x20 ctr --namespace k8s.io images import ARCHIVE\n\
                 \x20 docker load --input ARCHIVE\n\
                 \x20 skopeo copy oci-archive:ARCHIVE docker://REGISTRY/NAME:TAG"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("images: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(image: &Image) {
    println!("{}", image.reference);
    println!("  archive  {}", image.path.display());
    println!("  digest   {}", image.digest);
    println!("  program  {} bytes", thousands(image.program_bytes));
    println!("  image    {} bytes compressed", thousands(image.image_bytes));
}

/// Digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
