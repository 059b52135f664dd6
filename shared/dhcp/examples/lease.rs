//! Gets a lease for a link and keeps it, telling what happens: `lease NETNS IFNAME [4|6] [release]`.
//!
//! The link keeps whatever addresses it has: what a lease says is only printed.

use podwire_dhcp::{Client4, Client6, Event, Options4, Options6, Place};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [netns, ifname, more @ ..] = args.as_slice() else { return Err("lease NETNS IFNAME [4|6] [release]".into()) };
    let place = Place::new(netns, ifname)?;
    let id = format!("\0{netns}/{ifname}");
    let has = |word: &str| more.iter().any(|arg| arg == word);
    if has("6") {
        let client = Client6::new(place, Options6::new(id.as_bytes(), ifname));
        let mut lease = client.acquire().await?;
        loop {
            println!("{}", serde_json::to_string_pretty(&lease)?);
            if has("release") {
                return Ok(client.release(&lease).await?);
            }
            lease = match client.next(&lease).await? {
                Event::Renewed(lease) => lease,
                Event::Lost(why) => {
                    println!("lost: {why}");
                    client.acquire_at_last(Some(&lease)).await?
                }
            };
        }
    }
    let client = Client4::new(place, Options4::new(id.as_bytes()));
    let mut lease = client.acquire().await?;
    loop {
        println!("{}", serde_json::to_string_pretty(&lease)?);
        if has("release") {
            return Ok(client.release(&lease).await?);
        }
        lease = match client.next(&lease).await? {
            Event::Renewed(lease) => lease,
            Event::Lost(why) => {
                println!("lost: {why}");
                client.acquire_at_last(Some(&lease)).await?
            }
        };
    }
}
