"""Train a backbone of your own with our recipes, without a fork.

Usage: python examples/03_own_backbone.py STORE OUT [EPOCHS]

The same on the command line, in the folder of my_network.py:
    pointcmt train student --data STORE --out OUT --set model.backbone=my_network:Adapter
"""

import sys

import pointcmt as pc

store, out = pc.open_store(sys.argv[1]), sys.argv[2]
epochs = int(sys.argv[3]) if len(sys.argv) > 3 else 10

result = pc.train(
    "student",
    data=store,
    out=out,
    epochs=epochs,
    model__backbone="my_network:Adapter",  # module:name; Python finds it beside this script
    data__points=128,
    data__batch_size=10,
)
print(result.cost.describe() if result.cost else "")

report = pc.evaluate(out, data=store)
print(report.describe())

model = pc.load_run(out)
print(f"{type(model.network).__name__}, {len(model.class_names)} classes")
