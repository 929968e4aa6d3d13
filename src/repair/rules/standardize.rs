//! Standardizes numbers by the mean and deviation of the training data.
use crate::repair::{Example, Propose, Repair, Stage, Switch, Tier};

pub(in crate::repair) static REPAIR: Repair = Repair {
    name: "standardize",
    tier: Tier::Three,
    switch: Switch::Transform("standardize: {mean: [...], std: [...]}"),
    stage: Stage::Transform,
    lossy: false,
    when: "The input has `standardize: {mean: [...], std: [...]}` (one number for all features of the last axis, or one for each) or `standardize: {from: profile}`: each number becomes `(x - mean) / std`, computed in float64 and rounded once. From a profile, its scaler is used (StandardScaler, MinMaxScaler, RobustScaler), or otherwise what leads from its raw side to the other.",
    example: Example {
        signature: "x:float[-1,2]",
        request: "x:double[2,2]{10,300,30,500}",
        becomes: "x:float[2,2]{-1,0,1,2}",
        policy: "inputs: {x: {transform: [{standardize: {mean: [20, 300], std: [10, 100]}}]}}",
    },
    propose: Propose::Declared,
};
