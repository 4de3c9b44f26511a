"""A training script of our own that is built as diffusers' are, for the places where those are not at hand.

It knows nothing of lorabench. In common with diffusers' scripts: argparse, one accelerator, parts of the base loaded
one by one, a prompt encoded once and the text encoders let go, latents cached and the autoencoder let go, a save hook
that writes diffusers' LoRA file, `accumulate`, checkpoints by step, pictures after an epoch, and a last save.
"""

import argparse
import gc
import itertools
import math
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image
from transformers import CLIPTextModel, T5EncoderModel

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


class Pictures(torch.utils.data.Dataset):
    def __init__(self, folder, size):
        self.paths, self.size = sorted(Path(folder).glob("*.png")), size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        picture = Image.open(self.paths[index]).convert("RGB").resize((self.size, self.size))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 127.5 - 1


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pretrained_model_name_or_path", required=True)
    parser.add_argument("--instance_data_dir", required=True)
    parser.add_argument("--instance_prompt", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--max_train_steps", type=int, default=10)
    parser.add_argument("--checkpointing_steps", type=int, default=500)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--resume_from_checkpoint")
    parser.add_argument("--validation_prompt")
    parser.add_argument("--train_text_encoder", action="store_true")
    parser.add_argument("--cache_latents", action="store_true")
    parser.add_argument("--own_batches", action="store_true", help="Take batches from a loader that was not prepared.")
    parser.add_argument("--count_from", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def packed(latents):
    n, c, h, w = latents.shape
    return latents.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, 4 * c)


def grid_of(latents):
    h, w = latents.shape[-2] // 2, latents.shape[-1] // 2
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([torch.zeros(h, w), rows, columns], dim=-1).reshape(-1, 3).float()


def main(args):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    base = args.pretrained_model_name_or_path
    text_encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder")
    text_encoder_2 = T5EncoderModel.from_pretrained(base, subfolder="text_encoder_2")
    encoders = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    encoding = FluxPipeline.from_pretrained(base, transformer=None, vae=None, **encoders)
    vae = AutoencoderTiny.from_pretrained(base, subfolder="vae")
    transformer = FluxTransformer2DModel.from_pretrained(base, subfolder="transformer")
    for one in (vae, text_encoder, text_encoder_2, transformer):
        one.requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=4, lora_dropout=0.1, init_lora_weights="gaussian", target_modules=TARGETS)
    transformer.add_adapter(config)
    trained = [transformer]
    if args.train_text_encoder:
        text_encoder.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"]))
        trained.append(text_encoder)

    def write(models, weights, folder):
        layers = {}
        for model in models:
            kind = "transformer" if isinstance(model, FluxTransformer2DModel) else "text_encoder"
            layers[f"{kind}_lora_layers"] = get_peft_model_state_dict(model)
            if weights:
                weights.pop()
        FluxPipeline.save_lora_weights(folder, **layers)

    def read(models, folder):
        stored = FluxPipeline.lora_state_dict(folder)
        while models:
            model = models.pop()
            kind = "transformer." if isinstance(model, FluxTransformer2DModel) else "text_encoder."
            own = {key.removeprefix(kind): value for key, value in stored.items() if key.startswith(kind)}
            set_peft_model_state_dict(model, own, adapter_name="default")

    accelerator.register_save_state_pre_hook(write)
    accelerator.register_load_state_pre_hook(read)

    weights = [one for model in trained for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.learning_rate)
    loader = torch.utils.data.DataLoader(Pictures(args.instance_data_dir, args.resolution), batch_size=2, shuffle=True)

    def encode():
        return encoding.encode_prompt(args.instance_prompt, None, max_sequence_length=24)[:2]

    with torch.no_grad():
        sequence, pooled = encode()
    if not args.train_text_encoder:
        del text_encoder, text_encoder_2, encoders, encoding
    cached = None
    if args.cache_latents:
        with torch.no_grad():
            cached = [vae.encode(batch).latents for batch in loader]
        scaling, shift = vae.config.scaling_factor, vae.config.shift_factor
        del vae
    else:
        scaling, shift = vae.config.scaling_factor, vae.config.shift_factor
    gc.collect()

    *models, optimizer, prepared = accelerator.prepare(*trained, optimizer, loader)
    model = models[0]
    loader = loader if args.own_batches else prepared
    per_epoch = math.ceil(len(loader) / args.gradient_accumulation_steps)
    global_step = args.count_from
    if args.resume_from_checkpoint:
        accelerator.load_state(str(Path(args.output_dir, args.resume_from_checkpoint)))
        global_step = int(args.resume_from_checkpoint.split("-")[1])

    for epoch in range(global_step // per_epoch, math.ceil(args.max_train_steps / per_epoch)):
        model.train()
        for index, batch in enumerate(loader):
            with accelerator.accumulate(*models):
                if args.train_text_encoder:
                    sequence, pooled = encode()
                with torch.no_grad():
                    latents = cached[index] if cached else vae.encode(batch).latents
                latents = (latents - shift) * scaling
                noise, level = torch.randn_like(latents), torch.rand(len(latents))
                made = model(
                    hidden_states=packed(torch.lerp(latents, noise, level[:, None, None, None])),
                    timestep=level,
                    encoder_hidden_states=sequence.repeat(len(latents), 1, 1),
                    pooled_projections=pooled.repeat(len(latents), 1),
                    img_ids=grid_of(latents),
                    txt_ids=torch.zeros(sequence.shape[1], 3),
                    return_dict=False,
                )[0]
                loss = (made - packed(noise - latents)).square().mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(itertools.chain(*(one.parameters() for one in models)), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                global_step += 1
                if accelerator.is_main_process and global_step % args.checkpointing_steps == 0:
                    accelerator.save_state(str(Path(args.output_dir, f"checkpoint-{global_step}")))
            accelerator.log({"loss": loss.detach().item()}, step=global_step)
            if global_step >= args.max_train_steps:
                break
        if args.validation_prompt is not None:
            sys.stdout.write(f"pictures after epoch {epoch}\n")

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        write([accelerator.unwrap_model(one) for one in models], [], args.output_dir)
        sys.stdout.write(f"saved after step {global_step}\n")
    accelerator.end_training()


if __name__ == "__main__":
    main(parse_args())
