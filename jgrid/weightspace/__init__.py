"""Networks that read the weights of fields: Navon et al., Equivariant Architectures for Learning in
Deep Weight Spaces (ICML 2023).

Neurons of a hidden layer may be permuted without a change of the function, so networks on weights
should not notice. Dimensions here: F fields, B fields of a batch, C features per weight; an axis of
a weight tensor is hidden (it has a name, and may be permuted) or free."""
