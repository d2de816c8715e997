"""The library as its server looks after it: the model, what is sent to it, copies, and the room it takes."""
