//! A gRPC codec that does not encode: what goes in is on the wire as it is, so that a peer can send garbage.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends bytes, receives messages of type `Received`.
#[derive(Debug)]
pub struct RawCodec<Received>(PhantomData<Received>);

impl<Received> Default for RawCodec<Received> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Received: Message + Default + Send + 'static> Codec for RawCodec<Received> {
    type Encode = Bytes;
    type Decode = Received;
    type Encoder = RawEncoder;
    type Decoder = MessageDecoder<Received>;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> MessageDecoder<Received> {
        MessageDecoder(PhantomData)
    }
}

/// Puts bytes as they are.
#[derive(Debug)]
pub struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct MessageDecoder<Received>(PhantomData<Received>);

impl<Received: Message + Default> Decoder for MessageDecoder<Received> {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        let message = Received::decode(buffer.copy_to_bytes(buffer.remaining()));
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
