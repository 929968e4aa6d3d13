//! Target `metadata`: decodes signatures, from a whole metadata response or from the map in it.
use prost::Message as _;
use tfs_sidecar::proto::tensorflow::serving::{GetModelMetadataResponse, SignatureDefMap};
use tfs_sidecar::repair::{Limits, Mode, ModelPolicy};
use tfs_sidecar::signature::Signatures;

use super::plan::judged;
use super::world;

pub fn metadata(data: &[u8]) {
    let Some((way, bytes)) = data.split_first() else { return };
    let signatures = if way & 1 == 0 {
        let Ok(response) = GetModelMetadataResponse::decode(bytes) else { return };
        let Ok((signatures, _)) = Signatures::from_metadata(&response) else { return };
        signatures
    } else {
        let Ok(map) = SignatureDefMap::decode(bytes) else { return };
        Signatures::from(map)
    };
    assert_eq!(signatures.changes_to(&signatures), Vec::<String>::new());
    let changes = signatures.changes_to(world::signatures(0));
    assert_eq!(changes.is_empty(), world::signatures(0).changes_to(&signatures).is_empty());
    // The lookup relies on the order.
    for signature in signatures.iter() {
        assert!(signature.inputs.iter().all(|info| signature.input(&info.alias) == Some(info)));
        assert!(signature.outputs.iter().all(|info| signature.output(&info.alias) == Some(info)));
    }
    for message in world::probes() {
        judged(message, &signatures, &ModelPolicy::default(), Limits::default(), Some(Mode::Repair));
    }
}
