//! The document is valid in structure, and its examples conform to its own schemas.
use super::*;

fn info(alias: &str, dtype: DataType, shape: &str) -> TensorInfo {
    TensorInfo {
        alias: alias.to_owned(),
        tensor_name: format!("{alias}:0"),
        dtype,
        shape: PartialShape::parse(shape).unwrap(),
        has_default: false,
    }
}

fn signature(name: &str, method: &str, inputs: Vec<TensorInfo>, outputs: Vec<TensorInfo>) -> Signature {
    Signature { name: name.to_owned(), inputs, outputs, method_name: method.to_owned() }
}

fn signatures() -> Signatures {
    let all: Vec<TensorInfo> = DataType::all()
        .filter(|dtype| class(*dtype) != Some(Class::Handle))
        .map(|dtype| info(&dtype.name(), dtype, "[-1,2]"))
        .collect();
    let y = || vec![info("y", DataType::FLOAT, "[-1,3]"), info("s_bytes", DataType::STRING, "[-1]")];
    [
        signature("serving_default", PREDICT, vec![info("x", DataType::FLOAT, "[-1,4]")], y()),
        signature("several", PREDICT, all, vec![info("y", DataType::INT64, "[-1]")]),
        signature("fixed", PREDICT, vec![info("x", DataType::UINT8, "[4,2,-1]")], y()),
        signature(
            "scalar",
            PREDICT,
            vec![info("x", DataType::INT32, "[]")],
            vec![info("n", DataType::INT32, "[]")],
        ),
        signature("any", PREDICT, vec![info("x", DataType::DOUBLE, "unknown rank")], y()),
        signature("image", PREDICT, vec![info("x", DataType::FLOAT, "[-1,224,224,3]")], y()),
        signature("labels", CLASSIFY, vec![info("inputs", DataType::STRING, "[-1]")], y()),
        signature("price", REGRESS, vec![info("inputs", DataType::STRING, "[-1]")], y()),
        signature("handle", PREDICT, vec![info("x", DataType::RESOURCE, "[]")], y()),
        signature("__init", "", Vec::new(), Vec::new()),
    ]
    .into_iter()
    .collect()
}

fn document() -> Value {
    let signatures = signatures();
    let model = |name, version| Model { name, version, signatures: &signatures };
    serde_json::from_str(&openapi(&[model("m", 2), model("m", 10), model("a b", 1)])).unwrap()
}

#[test]
fn every_model_has_its_paths() {
    let document = document();
    let paths: Vec<&str> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = Vec::new();
    for base in ["/v1/models/a%20b", "/v1/models/m", "/v1/models/m/versions/2"] {
        for rest in ["", "/metadata", ":classify", ":predict", ":regress"] {
            expected.push(format!("{base}{rest}"));
        }
    }
    expected.sort_unstable();
    let mut paths = paths;
    paths.sort_unstable();
    assert_eq!(paths, expected);
    assert_eq!(document["openapi"], "3.1.0");
    for path in document["paths"].as_object().unwrap().values() {
        for operation in path.as_object().unwrap().values() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.contains_key("200") && responses.contains_key("default"));
        }
    }
}

#[test]
fn every_reference_has_its_schema() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").map(|target| target.as_str().unwrap().to_owned()));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for target in found {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
    }
}

/// Whether a value conforms to a schema, as far as the document uses JSON Schema.
fn conforms(document: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(target) = schema["$ref"].as_str() {
        return conforms(document, document.pointer(target.trim_start_matches('#')).unwrap(), value);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        return any.iter().any(|schema| conforms(document, schema, value));
    }
    if let Some(expected) = schema.get("const") {
        return expected == value;
    }
    match (schema["type"].as_str(), value) {
        (None, _) => true,
        (Some("array"), Value::Array(values)) => {
            let length = values.len() as u64;
            schema["minItems"].as_u64().is_none_or(|least| length >= least)
                && schema["maxItems"].as_u64().is_none_or(|most| length <= most)
                && values.iter().all(|value| conforms(document, &schema["items"], value))
        }
        (Some("object"), Value::Object(map)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            required.into_iter().all(|key| map.contains_key(key.as_str().unwrap()))
                && map.iter().all(|(key, value)| {
                    schema["properties"].get(key).is_none_or(|schema| conforms(document, schema, value))
                })
        }
        (Some("integer"), Value::Number(number)) => {
            let wide = |value: &Value| value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
            let number = wide(&Value::Number(number.clone()));
            number.is_some_and(|number| {
                wide(&schema["minimum"]).is_none_or(|least| number >= least)
                    && wide(&schema["maximum"]).is_none_or(|most| number <= most)
            })
        }
        (Some("number"), Value::Number(_)) => true,
        (Some("boolean"), Value::Bool(_)) => true,
        (Some("string"), Value::String(_)) => true,
        _ => false,
    }
}

#[test]
fn examples_conform_to_their_schemas() {
    let document = document();
    let content =
        &document["paths"]["/v1/models/m:predict"]["post"]["requestBody"]["content"]["application/json"];
    let examples = content["examples"].as_object().unwrap();
    let names: Vec<&str> = examples.keys().map(String::as_str).collect();
    let mut expected = Vec::new();
    for name in ["any", "fixed", "labels", "price", "serving_default", "several"] {
        expected.extend([format!("{name}, inputs"), format!("{name}, instances")]);
    }
    // A scalar has no rows, an image is too large, and a handle is not JSON.
    expected.insert(8, "scalar, inputs".to_owned());
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, expected);
    for (name, example) in examples {
        let value = &example["value"];
        assert!(conforms(&document, &content["schema"], value), "{name}: {value}");
        let own: Vec<&Value> = content["schema"]["anyOf"].as_array().unwrap().iter().collect();
        let signature = name.split(',').next().unwrap();
        let own = own.into_iter().filter(|schema| schema["title"] == signature);
        assert!(own.into_iter().any(|schema| conforms(&document, schema, value)), "{name}: {value}");
    }
    assert_eq!(examples["serving_default, instances"]["value"], json!({"instances": [[0.5, 0.5, 0.5, 0.5]]}));
    let fixed = json!({"signature_name": "fixed", "instances": vec![json!([[0], [0]]); 4]});
    assert_eq!(examples["fixed, instances"]["value"], fixed);
    assert_eq!(examples["scalar, inputs"]["value"], json!({"signature_name": "scalar", "inputs": 0}));
}

#[test]
fn schemas_follow_the_declared_shapes() {
    let document = document();
    let post = &document["paths"]["/v1/models/m:predict"]["post"];
    let schema = &post["requestBody"]["content"]["application/json"]["schema"];
    for (wrong, why) in [
        (json!({"instances": [[0.5, 0.5, 0.5]]}), "three of four values"),
        (json!({"instances": []}), "no rows"),
        (json!({"inputs": [0.5]}), "a flat list"),
        (
            json!({"signature_name": "fixed", "inputs": [[[256], [0]], [[0], [0]], [[0], [0]], [[0], [0]]]}),
            "256",
        ),
        (json!({"signature_name": "scalar", "instances": [1]}), "rows of a scalar"),
    ] {
        let own = schema["anyOf"].as_array().unwrap().iter();
        let name = wrong["signature_name"].as_str().unwrap_or("serving_default").to_owned();
        let own = own.filter(|schema| schema["title"] == name.as_str());
        assert!(!own.into_iter().any(|schema| conforms(&document, schema, &wrong)), "{why}");
    }
    let answers = &post["responses"]["200"]["content"]["application/json"]["schema"];
    let row = json!({"predictions": [{"y": [1.0, 2.0, 3.0], "s_bytes": {"b64": ""}}]});
    assert!(conforms(&document, answers, &row));
}
