use embedded_io_async::{BufRead, Write};
use handover_guest::stream::{Stream, StreamError};

/// Writes everything back until the peer closes; how many bytes.
async fn echo(mut stream: Stream) -> Result<u64, StreamError> {
    let (mut reader, mut writer) = stream.split();
    let mut total = 0;
    loop {
        let bytes = reader.fill_buf().await?; // where they are: in the peer's region
        if bytes.is_empty() {
            return Ok(total);
        }
        let count = writer.write(bytes).await?;
        reader.consume(count);
        total += count as u64;
    }
}
