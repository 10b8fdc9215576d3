//! Small readers that know nothing of Keyward's: what a target compares its findings with.
//!
//! Never here: speed. They are as plain as what they check is fast.

/// `data` up to the first `separator`, and what stands behind it; all of it, and nothing, where there is none.
pub fn cut(data: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match data.iter().position(|&byte| byte == separator) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, b""),
    }
}

/// `text` with its escapes resolved, and those that this brings to light, so many times.
pub fn percent_decoded(text: &[u8], times: usize) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..times {
        let mut decoded = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some((&byte, behind)) = rest.split_first() {
            let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            match digits.filter(is_hex).filter(|_| byte == b'%') {
                Some(digits) => {
                    decoded.push(u8::from_str_radix(digits, 16).expect("two digits"));
                    rest = &behind[2..];
                }
                None => {
                    decoded.push(byte);
                    rest = behind;
                }
            }
        }
        if decoded == text {
            break;
        }
        text = decoded;
    }
    text
}

/// What `text` is in base64 (RFC 4648 §4), with its padding and no bits left over.
pub fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut bits, mut count, mut decoded) = (0_u32, 0, Vec::new());
    for byte in &text[..text.len() - padding] {
        let value = ALPHABET.iter().position(|letter| letter == byte)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count == 2 * padding).then_some(decoded)
}

/// The name of a field, in lower case, and its value.
pub type Field = (String, Vec<u8>);

/// The first line of a head that is sound, and its fields.
pub fn fields_of(head: &[u8]) -> (Vec<u8>, Vec<Field>) {
    let head = head.strip_suffix(b"\r\n\r\n").expect("the head ends with an empty line");
    let mut lines = head.split(|&byte| byte == b'\n');
    let mut line = || {
        let line = lines.next()?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r') && !line.contains(&0), "a line within a line");
        Some(line)
    };
    let first = line().expect("a first line").to_vec();
    let mut fields = Vec::new();
    while let Some(line) = line() {
        let (name, value) = cut(line, b':');
        assert!(!name.is_empty() && !name.contains(&b' '), "no name: {line:?}");
        let name = String::from_utf8(name.to_ascii_lowercase()).expect("a name in ASCII");
        fields.push((name, value.trim_ascii().to_vec()));
    }
    (first, fields)
}

/// The data of a chunked body that is whole and sound (RFC 9112 §7.1), and what stands behind it.
pub fn unchunked(body: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let line = |text: &[u8]| text.windows(2).position(|window| window == b"\r\n");
    let (mut data, mut rest) = (Vec::new(), body);
    loop {
        let end = line(rest)?;
        let digits: Vec<u8> =
            rest[..end].iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        let size = u64::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).ok().filter(|&size| size <= rest.len())?;
        data.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let end = line(rest)?;
        rest = &rest[end + 2..];
        if end == 0 {
            return Some((data, rest));
        }
    }
}
